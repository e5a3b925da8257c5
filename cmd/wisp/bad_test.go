package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// shopRows makes a small sound CSV: every user buys through the catalogue.
func shopRows(users, events int) string {
	var b strings.Builder
	b.WriteString("user,item,value,time\n")
	for u := range users {
		for i := range events {
			fmt.Fprintf(&b, "u%d,sku-%d,%d,%d\n", u, (u+i)%(events+2), 1+(u+i)%5, 1_700_000_000+100_000*u+1000*i)
		}
	}
	return b.String()
}

// prepareRows prepares a CSV file and returns the folder.
func prepareRows(t *testing.T, csv string) string {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "prepared")
	succeed(t, "prepare", "--format", "csv", "--events", put(t, filepath.Join(dir, "events.csv"), []byte(csv)), "--out", out)
	return out
}

// utf16LE encodes s as some spreadsheets export it.
func utf16LE(s string) []byte {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// TestBadSource gives prepare files that it cannot use. Each time the error names
// the file, the line where there is one, and what to do; and the data set that
// was prepared before is untouched.
func TestBadSource(t *testing.T) {
	const head = "user,item,value,time\n"
	sound := shopRows(3, 4)
	out := prepareRows(t, sound)
	before := snapshot(t, filepath.Dir(out))

	for name, test := range map[string]struct {
		format  string
		content string
		say     []string
		args    []string
	}{
		"empty":               {"csv", "", []string{"events.bad is empty", "export it again"}, nil},
		"only a header":       {"csv", head, []string{"events.bad has no rows", "export it again"}, nil},
		"blank lines":         {"jsonl", "\n\n\n", []string{"events.bad has no rows", "export it again"}, nil},
		"wrong columns":       {"csv", "customer,sku,at\nu1,i1,3\n", []string{"events.bad:1", `no column "user"`, "customer, sku, at", "mapping"}, nil},
		"another format":      {"recbole", sound, []string{"events.bad:1", "name:type"}, nil},
		"too few fields":      {"double-colon", "1::2::3\n1::3::4\n", []string{"events.bad:1", "3, expected 4", "check the format"}, nil},
		"not JSON":            {"jsonl", sound, []string{"events.bad:1", "syntax error", "check the format"}, nil},
		"Latin-1":             {"csv", head + "u1,caf\xe9,3,5\n", []string{"events.bad:2", "not valid UTF-8", "latin1"}, nil},
		"UTF-16":              {"csv", string(utf16LE(sound)), []string{"events.bad:1", "not valid UTF-8", "export the file as UTF-8"}, nil},
		"NaN ratings":         {"csv", head + "u1,i1,NaN,5\nu1,i2,nan,6\n", []string{"events.bad:2", "rating is not a finite number: NaN", "check the format"}, nil},
		"infinite ratings":    {"csv", head + "u1,i1,Inf,5\n", []string{"events.bad:2", "rating is not a finite number"}, nil},
		"negative times":      {"csv", head + "u1,i1,3,-5\n", []string{"events.bad:2", "-5 is not between 1970 and 2200"}, nil},
		"times in ms":         {"csv", head + "u1,i1,3,1700000000000\n", []string{"events.bad:2", "1700000000000 is not between 1970 and 2200"}, nil},
		"times in words":      {"csv", head + "u1,i1,3,yesterday\n", []string{"events.bad:2", `bad timestamp: "yesterday" is not a number`}, nil},
		"empty ids":           {"csv", head + ",i1,3,5\n", []string{"events.bad:2", "the user is empty"}, nil},
		"an unclosed quote":   {"csv", head + "u1,\"i1,3,5\nu1,i2,3,6\n", []string{"events.bad:2", "syntax error"}, nil},
		"truncated Parquet":   {"parquet", "PAR1", []string{"events.bad", "not a whole Parquet file", "export it again"}, nil},
		"unknown format":      {"xlsx", sound, []string{`"xlsx"`, "csv"}, nil},
		"unknown encoding":    {"csv", sound, []string{`"ebcdic"`, "utf8 or latin1"}, []string{"--encoding", "ebcdic"}},
		"no item left":        {"csv", sound, []string{"no events left", "events.bad", "outside the k-core", "loosen"}, []string{"--core", "99"}},
		"missing item file":   {"csv", sound, []string{"no-such-file", "check the path"}, []string{"--items", "no-such-file"}},
		"missing mapping":     {"csv", sound, []string{"no-such-file", "check the path"}, []string{"--mapping", "no-such-file"}},
		"a column of mapping": {"csv", sound, []string{"events.bad:1", `no column "stars"`, "mapping"}, []string{"--mapping", "MAPPING"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			args := []string{"prepare", "--format", test.format, "--events", put(t, filepath.Join(dir, "events.bad"), []byte(test.content)), "--out", out}
			for _, a := range test.args {
				if a == "MAPPING" {
					a = put(t, filepath.Join(dir, "mapping.json"), []byte(`{"value": "stars"}`))
				}
				args = append(args, a)
			}
			fail(t, test.say, args...)
			if snapshot(t, filepath.Dir(out)) != before {
				t.Error("the data set that was there before is not what it was")
			}
		})
	}

	t.Run("unreadable", func(t *testing.T) {
		dir := t.TempDir()
		fail(t, []string{dir, "is a folder; name a file in it"}, "prepare", "--format", "csv", "--events", dir, "--out", out)
		missing := filepath.Join(dir, "missing.csv")
		fail(t, []string{missing, "check the path"}, "prepare", "--format", "csv", "--events", missing, "--out", out)
		locked := put(t, filepath.Join(dir, "locked.csv"), []byte(sound))
		if err := os.Chmod(locked, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := os.ReadFile(locked); err == nil {
			t.Skip("permissions do not bind this user")
		}
		fail(t, []string{locked, "permission denied"}, "prepare", "--format", "csv", "--events", locked, "--out", out)
	})
	t.Run("mapping", func(t *testing.T) {
		path := put(t, filepath.Join(t.TempDir(), "mapping.json"), []byte(`{"usr": "customer"}`))
		fail(t, []string{path, `"usr"`, `{"user": "customer"`}, "prepare", "--format", "csv", "--events", path, "--mapping", path, "--out", out)
	})
	t.Run("an item file without items", func(t *testing.T) {
		dir := t.TempDir()
		events, items := put(t, filepath.Join(dir, "events.csv"), []byte(sound)), put(t, filepath.Join(dir, "items.csv"), []byte("id,title\n"))
		fail(t, []string{items, "has no rows", "export it again"}, "prepare", "--format", "csv", "--events", events, "--items", items, "--out", out)
	})
}

// TestBrokenRows gives prepare a file with some broken rows among sound ones:
// they are dropped, counted, and shown with their lines.
func TestBrokenRows(t *testing.T) {
	sound := shopRows(3, 4) // lines 1 to 13
	for name, test := range map[string]struct {
		rows string
		say  []string
	}{
		"NaN rating":    {"u1,sku-1,NaN,5\n", []string{"1 dropped: rating is not a finite number", "  events.csv:14: rating is not a finite number: NaN\n"}},
		"negative time": {"u1,sku-1,3,-1\n", []string{"1 dropped: bad timestamp", "  events.csv:14: bad timestamp: -1 is not between 1970 and 2200\n"}},
		"absurd time":   {"u1,sku-1,3,9e18\n", []string{"1 dropped: bad timestamp", "  events.csv:14: bad timestamp: 9e+18 is not between 1970 and 2200\n"}},
		"mis-encoded":   {"u1,caf\xe9,3,5\n", []string{"1 dropped: not valid UTF-8", "  events.csv:14: not valid UTF-8: "}},
		"truncated":     {"u1,sku-1", []string{"1 dropped: wrong number of columns", "  events.csv:14: wrong number of columns: 2, expected 4\n"}},
		"duplicate":     {"u0,sku-0,1,1700000000\n", []string{"1 dropped: exact duplicate", "  events.csv:2: same as line 14\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			stdout := succeed(t, "prepare", "--format", "csv", "--events", put(t, filepath.Join(dir, "events.csv"), []byte(sound+test.rows)), "--out", filepath.Join(dir, "out"))
			for _, want := range append(test.say, "12 of 13 rows kept") {
				if !strings.Contains(stdout, want) {
					t.Errorf("prepare does not say %q:\n%s", want, stdout)
				}
			}
		})
	}
}

// TestSmallestData runs the chain on as little as there can be.
func TestSmallestData(t *testing.T) {
	t.Run("one user", func(t *testing.T) {
		dir := t.TempDir()
		prepared, model, artefact := prepareRows(t, shopRows(1, 6)), filepath.Join(dir, "model"), filepath.Join(dir, "one.wisp")
		succeed(t, quickTrain(prepared, model)...)
		succeed(t, "compress", model, "--data", prepared, "--out", artefact)
		if stdout := succeed(t, "eval", "--data", prepared, "--model", model, "--artefact", artefact); !strings.Contains(stdout, "1 cases, 6 items") {
			t.Errorf("eval:\n%s", stdout)
		}
		// The one user has had everything there is.
		if r := recommend(t, artefact, "--data", prepared, "--user", "u0", "--explain"); len(r.Items) != 0 || r.ColdStart {
			t.Errorf("%+v", r)
		}
	})
	t.Run("one event", func(t *testing.T) {
		prepared, model := prepareRows(t, shopRows(1, 1)), filepath.Join(t.TempDir(), "model")
		fail(t, []string{"nothing to train on", "1 users", "two training events"}, quickTrain(prepared, model)...)
		fail(t, []string{"no test cases", "no user has 5 events"}, "eval", "--data", prepared)
	})
}

// TestDamagedPrepared damages each file of a prepared data set in turn.
func TestDamagedPrepared(t *testing.T) {
	c := madeChain(t)
	commands := func(prepared string) [][]string {
		return [][]string{
			quickTrain(prepared, filepath.Join(t.TempDir(), "out")),
			{"eval", "--data", prepared},
			{"compress", c.model, "--data", prepared, "--out", filepath.Join(t.TempDir(), "x.wisp")},
			{"recommend", c.artefact, "--data", prepared, "--user", "u000001"},
		}
	}
	for _, file := range []string{"manifest.json", "events.parquet", "items.parquet", "users.parquet"} {
		for how, damage := range map[string]func([]byte) []byte{
			"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 0x80; return b },
			"truncated": func(b []byte) []byte { return b[:len(b)/2] },
			"empty":     func([]byte) []byte { return nil },
		} {
			t.Run(file+"/"+how, func(t *testing.T) {
				if testing.Short() && how != "flipped" {
					t.Skip("a flipped bit tells most")
				}
				own := c.copy(t)
				path := filepath.Join(own.prepared, file)
				put(t, path, damage(get(t, path)))
				for _, args := range commands(own.prepared) {
					fail(t, []string{path, "prepare the data again"}, args...)
				}
			})
		}
		t.Run(file+"/missing", func(t *testing.T) {
			own := c.copy(t)
			path := filepath.Join(own.prepared, file)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			for _, args := range commands(own.prepared) {
				fail(t, []string{path, "prepare"}, args...)
			}
		})
	}
}

// TestDamagedModel damages a trained model.
func TestDamagedModel(t *testing.T) {
	c := madeChain(t)
	features, err := filepath.Glob(filepath.Join(c.model, featuresFiles))
	if err != nil || len(features) != 1 {
		t.Fatalf("item vectors: %v, %v", features, err)
	}
	for name, test := range map[string]struct {
		file   string
		damage func([]byte) []byte
	}{
		"weights truncated":    {modelFile, func(b []byte) []byte { return b[:len(b)-100] }},
		"weights empty":        {modelFile, func([]byte) []byte { return nil }},
		"header flipped":       {modelFile, func(b []byte) []byte { b[40] ^= 0x80; return b }},
		"a NaN in the weights": {modelFile, func(b []byte) []byte { return append(b[:len(b)-4], 0, 0, 0xc0, 0x7f) }},
		"vectors flipped":      {filepath.Base(features[0]), func(b []byte) []byte { b[len(b)-3] ^= 1; return b }},
		"vectors truncated":    {filepath.Base(features[0]), func(b []byte) []byte { return b[:len(b)/2] }},
	} {
		t.Run(name, func(t *testing.T) {
			own := c.copy(t)
			path := filepath.Join(own.model, test.file)
			put(t, path, test.damage(get(t, path)))
			before := snapshot(t, own.artefact)
			fail(t, []string{path, "train the model again"}, "compress", own.model, "--data", own.prepared, "--out", own.artefact)
			fail(t, []string{path, "train the model again"}, "eval", "--data", own.prepared, "--model", own.model)
			if snapshot(t, own.artefact) != before {
				t.Error("the artefact that was there before is not what it was")
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		dir := t.TempDir()
		fail(t, []string{dir, "no model", "make one with wisp train"}, "eval", "--data", c.prepared, "--model", dir)
	})
}

// TestDamagedArtefact damages an artefact. Package artifact tries every bit; here
// it is what a user is told.
func TestDamagedArtefact(t *testing.T) {
	c := madeChain(t)
	sound := get(t, c.artefact)
	flip := func(at int) []byte {
		b := bytes.Clone(sound)
		b[at] ^= 1
		return b
	}
	for name, test := range map[string]struct {
		content []byte
		say     string
	}{
		"a flipped bit in the header":   {flip(20), ""},
		"a flipped bit in the middle":   {flip(len(sound) / 2), "fetch the file again"},
		"a flipped bit at the end":      {flip(len(sound) - 1), "fetch the file again"},
		"truncated":                     {sound[:len(sound)-1], "cut off"},
		"empty":                         {nil, "too few"},
		"transferred as text":           {bytes.ReplaceAll(sound, []byte("\r\n"), []byte("\n")), "copy it again as binary"},
		"something else":                {[]byte(shopRows(9, 9)), "not a .wisp file"},
		"followed by something else":    {append(bytes.Clone(sound), 0), "appended to"},
		"its first half, twice as long": {append(bytes.Clone(sound[:len(sound)/2]), sound[:len(sound)-len(sound)/2]...), "fetch the file again"},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, filepath.Join(t.TempDir(), "bad.wisp"), test.content)
			fail(t, []string{path, test.say}, "inspect", path)
			fail(t, []string{path, test.say}, "recommend", path, "--history", "i00001")
			fail(t, []string{path, test.say}, "eval", "--data", c.prepared, "--artefact", path)
		})
	}
	t.Run("missing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "missing.wisp")
		for _, args := range [][]string{{"inspect", path}, {"recommend", path}, {"eval", "--data", c.prepared, "--artefact", path}} {
			fail(t, []string{path, "no such file", "wisp compress"}, args...)
		}
	})
	t.Run("a folder", func(t *testing.T) {
		fail(t, []string{c.model, "wisp compress"}, "recommend", c.model)
	})
}

// TestOtherData mixes what belongs to different data sets.
func TestOtherData(t *testing.T) {
	c := madeChain(t)
	other := prepareRows(t, shopRows(4, 8))
	out := filepath.Join(t.TempDir(), "x.wisp")
	fail(t, []string{`"made"`, "150 items", "train again"}, "eval", "--data", other, "--model", c.model)
	fail(t, []string{`"made"`, "150 items", "train again"}, "compress", c.model, "--data", other, "--out", out)
	fail(t, []string{"150 items", "other data"}, "eval", "--data", other, "--artefact", c.artefact)
	fail(t, []string{"150 items", "other data"}, "recommend", c.artefact, "--data", other, "--user", "u1")
	fail(t, []string{`"leave-one-out"`, "--split leave-one-out"}, "eval", "--data", c.prepared, "--model", c.model, "--split", "time")
	if _, err := os.Stat(out); err == nil {
		t.Error("compress wrote an artefact all the same")
	}
}

// TestBadOutput names outputs that cannot be, or must not be, written.
func TestBadOutput(t *testing.T) {
	c := madeChain(t)
	dir := t.TempDir()
	file := put(t, filepath.Join(dir, "notes.txt"), []byte("keep me"))
	full := filepath.Join(dir, "full")
	if err := os.Mkdir(full, 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(full, "thesis.txt"), []byte("keep me too"))
	// A data set to which the user added a file.
	joined := c.copy(t).prepared
	put(t, filepath.Join(joined, "thesis.txt"), []byte("and me"))
	under := filepath.Join(file, "under")
	before := snapshot(t, dir, joined)

	simulate := func(out string) []string { return []string{"simulate", "--users", "20", "--items", "40", "--out", out} }
	compress := func(out string) []string { return []string{"compress", c.model, "--data", c.prepared, "--out", out} }
	eval := func(out string) []string { return []string{"eval", "--data", c.prepared, "--json", out} }
	for name, test := range map[string]struct {
		args []string
		say  []string
	}{
		"prepare into a full folder":  {prepareArgs(full), []string{full, "not written by this command", "name another folder"}},
		"prepare over an added file":  {prepareArgs(joined), []string{filepath.Join(joined, "thesis.txt"), "name another folder"}},
		"prepare into a file":         {prepareArgs(file), []string{file, "not a directory", "name another folder"}},
		"prepare under a file":        {prepareArgs(under), []string{under, "not a directory", "name another folder"}},
		"simulate into a full folder": {simulate(full), []string{full, "not written by this command", "name another folder"}},
		"simulate under a file":       {simulate(under), []string{under, "not a directory", "name another folder"}},
		"train into a full folder":    {quickTrain(c.prepared, full), []string{full, "something else than a model", "name another folder"}},
		"train into prepared data":    {quickTrain(c.prepared, joined), []string{joined, "something else than a model", "name another folder"}},
		"train into a file":           {quickTrain(c.prepared, file), []string{file, "not a directory", "name another folder"}},
		"compress into a folder":      {compress(full), []string{full, "is a folder; name a file in it"}},
		"compress under a file":       {compress(under), []string{under, "no folder", "make it or name another"}},
		"compress into no folder":     {compress(filepath.Join(dir, "no", "x.wisp")), []string{"there is no folder " + filepath.Join(dir, "no"), "make it or name another"}},
		"eval into a folder":          {eval(full), []string{full, "is a folder; name a file in it"}},
		"eval under a file":           {eval(under), []string{under, "no folder", "make it or name another"}},
	} {
		t.Run(name, func(t *testing.T) {
			fail(t, test.say, test.args...)
			if snapshot(t, dir, joined) != before {
				t.Error("what was there is not what it was")
			}
		})
	}
}

func TestBadOptions(t *testing.T) {
	c := madeChain(t)
	out := filepath.Join(t.TempDir(), "out")
	for name, test := range map[string]struct {
		args []string
		say  []string
	}{
		"unknown split":    {quickTrain(c.prepared, out, "--split", "odd"), []string{`"odd"`, "leave-one-out or time"}},
		"learning rate":    {quickTrain(c.prepared, out, "--lr", "7"), []string{"learning rate is 7", "must not exceed 1"}},
		"heads":            {quickTrain(c.prepared, out, "--heads", "3"), []string{"dim 16", "heads 3"}},
		"features":         {quickTrain(c.prepared, out, "--features", "-1"), []string{"item vectors with -1 columns", "at least 1"}},
		"negative k":       {[]string{"recommend", c.artefact, "-k", "-1"}, []string{"k is -1", "must lie between 1 and"}},
		"user and history": {[]string{"recommend", c.artefact, "--data", c.prepared, "--user", "u000001", "--history", "i00001"}, []string{"--user or --history, not both"}},
		"licence":          {[]string{"compress", c.model, "--data", c.prepared, "--out", out, "--licence", "CC0"}, []string{`"CC0"`, "WHAT=LICENCE"}},
		"time made":        {[]string{"compress", c.model, "--data", c.prepared, "--out", out, "--created", "today"}, []string{`created is "today"`, "a time such as"}},
		"no users":         {[]string{"simulate", "--out", out, "--users", "-3"}, []string{"-3 users", "at least 1"}},
		"scenario":         {[]string{"simulate", "--out", out, "--scenario", "zoo"}, []string{`"zoo"`, "shop, video or music"}},
	} {
		t.Run(name, func(t *testing.T) {
			fail(t, test.say, test.args...)
			if _, err := os.Stat(out); err == nil {
				t.Error("it wrote something all the same")
			}
		})
	}
}
