package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

// TestTextTopic measures the text path on two made sets, where a small encoder that knows
// its words is the teacher.
func TestTextTopic(t *testing.T) {
	shared := madeTweets(t)
	dir := filepath.Join(shared, "data", "ml-latest-small")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ratings, movies := "userId,movieId,rating,timestamp\n", "movieId,title,genres\n"
	tags := "userId,movieId,tag,timestamp\n1,0,Love,1\n1,2,love,2\n2,2,LOVE ,3\n1,1,war,4\n1,999,nothing here,5\n"
	for i := range 20 {
		movies += fmt.Sprintf("%d,%s %d (2001),Drama\n", i, []string{"Love", "War"}[i%2], i/2)
	}
	for u := range 20 {
		for i := range 8 {
			ratings += fmt.Sprintf("%d,%d,4,%d\n", u, (u+2*i)%20, 1000*u+60*i)
		}
	}
	for name, text := range map[string]string{"ratings.csv": ratings, "movies.csv": movies, "tags.csv": tags} {
		put(t, filepath.Join(dir, name), []byte(text))
	}
	b := bench{shared: shared, work: t.TempDir(), seeds: 2, p: &progress{w: io.Discard}}
	ds, _, err := b.prepared(t.Context(), b.taggedSet())
	if err != nil {
		t.Fatal(err)
	}
	queries, err := readTags(filepath.Join(dir, "tags.csv"), ds)
	if err != nil || len(queries) != 2 || queries[0].text != "love" || len(queries[0].items) != 2 || len(queries[1].items) != 1 {
		t.Fatalf("queries %+v, error %v", queries, err)
	}
	if got := queries[0].recall([]string{"2", "1", "7"}); got != 0.5 {
		t.Errorf("one of two films found is a recall of %v", got)
	}
	models := filepath.Join(shared, "models")
	if err := os.MkdirAll(models, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tinyEncoder(t, filepath.Join(b.work, "ml-latest-small", "prepared")), filepath.Join(models, "all-MiniLM-L6-v2")); err != nil {
		t.Fatal(err)
	}

	topic, err := b.textPath(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	values := valuesOf(t, topic.Records)
	for _, r := range topic.Records {
		if !strings.HasPrefix(r.Name, "size.") && (r.Low > r.Value || r.Value > r.High) {
			t.Errorf("%s: %v is not within %v and %v", r.Name, r.Value, r.Low, r.High)
		}
	}
	for _, what := range []string{"movietweetings.text-path.%s.cold-recall10", "movietweetings.text-path.%s.cold-among-hidden-recall10", "movietweetings.text-path.%s.cold-boosted-recall10", "movietweetings.text-path.%s.warm-boosted-recall10", "ml-latest-small.text-path.%s.tags-recall10"} {
		whole := values["quality."+fmt.Sprintf(what, "teacher")]
		for _, student := range []string{"student", "student-nano"} {
			name := "quality." + fmt.Sprintf(what, student)
			kept := values[name]
			share, there := values[name+"-retention"]
			if !there || whole <= 0 || math.Abs(share-kept/whole) > 1e-9 {
				t.Errorf("%s: teacher %v, %s %v, retention %v (there: %v)", what, whole, student, kept, share, there)
			}
		}
	}
	for _, student := range []string{"teacher", "student"} {
		name := "quality.movietweetings.text-path." + student + "."
		cold, warm := values[name+"cold-boosted-recall10"], values[name+"warm-boosted-recall10"]
		// The mean over seeds, which is not above that of the means.
		if v, most := values[name+"balanced-recall10"], 2*cold*warm/(cold+warm); v > most+1e-9 || v < 0.9*most {
			t.Errorf("the balance of %v and %v is %v", cold, warm, v)
		}
	}
	if v := values["quality.movietweetings.text-path.student.balanced-recall10-ratio"]; v <= 0 {
		t.Errorf("the ratio of balanced recalls is %v", v)
	}
	size := "size.movietweetings.text-path."
	if micro, nano := values[size+"student.bytes"], values[size+"student-nano.bytes"]; nano < 5e5 || nano > micro/2 ||
		values[size+"student.ratio-to-teacher"] <= 0 || values[size+"student-nano.ratio-to-teacher"] < 2*values[size+"student.ratio-to-teacher"] {
		t.Errorf("artefacts of %v and %v bytes", micro, nano)
	}
}

// TestReadTagsRefuses gives what are no tags.
func TestReadTagsRefuses(t *testing.T) {
	ds := &data.Dataset{Items: []data.Item{{ID: "1"}}}
	for name, text := range map[string]string{
		"none of the items": "userId,movieId,tag,timestamp\n1,2,a,3\n",
		"a column missing":  "userId,movieId,tag\n1,1,a\n",
		"empty":             "",
	} {
		path := filepath.Join(t.TempDir(), "tags.csv")
		put(t, path, []byte(text))
		if q, err := readTags(path, ds); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %+v, error %v; want one that names the file", name, q, err)
		}
	}
	if _, err := readTags("none.csv", ds); err == nil {
		t.Error("no error without a file")
	}
}
