// Throw-away tuning driver.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime/pprof"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

type row struct {
	u, i string
	r    float32
	t    int64
}

func read(path, sep string, header bool) []row {
	f, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	var rows []row
	for s.Scan() {
		if header {
			header = false
			continue
		}
		p := strings.Split(s.Text(), sep)
		r, _ := strconv.ParseFloat(p[2], 32)
		t, _ := strconv.ParseFloat(p[3], 64)
		rows = append(rows, row{p[0], p[1], float32(r), int64(t)})
	}
	return rows
}

func dataset(name string) *data.Dataset {
	var rows []row
	types := data.EventTypes(1, 5)
	core := 0
	switch name {
	case "ml":
		rows = read("/work/shared/data/ml-100k/ml-100k.inter", "\t", true)
	case "mt":
		rows = read("/work/shared/data/movietweetings/ratings.dat", "::", false)
		types = data.EventTypes(0, 10)
		core = 5
	case "mls":
		rows = read("/work/shared/data/ml-latest-small/ratings.csv", ",", true)
		core = 5
	}
	for core > 0 {
		cu, ci := map[string]int{}, map[string]int{}
		for _, r := range rows {
			cu[r.u]++
			ci[r.i]++
		}
		var keep []row
		for _, r := range rows {
			if cu[r.u] >= core && ci[r.i] >= core {
				keep = append(keep, r)
			}
		}
		if len(keep) == len(rows) {
			break
		}
		rows = keep
	}
	sort.SliceStable(rows, func(a, b int) bool { return rows[a].t < rows[b].t })
	d := &data.Dataset{Name: name, Types: types}
	us, is := map[string]int{}, map[string]int{}
	for _, r := range rows {
		u, ok := us[r.u]
		if !ok {
			u = len(d.Users)
			us[r.u] = u
			d.Users = append(d.Users, data.User{ID: r.u})
			d.Histories = append(d.Histories, nil)
		}
		i, ok := is[r.i]
		if !ok {
			i = len(d.Items)
			is[r.i] = i
			d.Items = append(d.Items, data.Item{ID: r.i})
		}
		d.Histories[u] = append(d.Histories[u], data.Interaction{Item: int32(i), Type: data.TypeOf(types, data.Rating, r.r), Value: r.r, Time: r.t})
	}
	return d
}

func ndcg(m *model.Model, cases []data.Case) (n, hr float64) {
	enc := hostgpu.NewEncoder(m, 32)
	D := m.Config.Dim
	hs := make([][]model.Event, len(cases))
	for i, c := range cases {
		hs[i] = hostgpu.Events(c.History)
	}
	u := make([]float32, len(cases)*D)
	if err := enc.Users(context.Background(), u, hs); err != nil {
		panic(err)
	}
	s := make([]float32, m.Config.Items)
	for i, c := range cases {
		m.Scores(s, u[i*D:(i+1)*D])
		t := s[c.Target.Item]
		for _, e := range c.History {
			if e.Item != c.Target.Item {
				s[e.Item] = float32(math.Inf(-1))
			}
		}
		r := 0
		for _, x := range s {
			if x > t {
				r++
			}
		}
		if r < 10 {
			n += 1 / math.Log2(float64(r)+2)
			hr++
		}
	}
	return n / float64(len(cases)), hr / float64(len(cases))
}

func main() {
	set := flag.String("set", "ml", "")
	opts := flag.String("o", "{}", "options JSON")
	seeds := flag.Int("seeds", 1, "")
	test := flag.Bool("test", false, "")
	quiet := flag.Bool("q", false, "")
	prof := flag.String("prof", "", "")
	flag.Parse()
	d := dataset(*set)
	sp := data.LeaveOneOut(d, 5)
	if *prof != "" {
		f, _ := os.Create(*prof)
		pprof.StartCPUProfile(f)
		defer pprof.StopCPUProfile()
	}
	fmt.Printf("# %s users %d items %d events %d cases %d opts %s blas %v\n", *set, len(d.Users), len(d.Items), d.Events(), len(sp.Valid), *opts, hostgpu.BLAS().Name)
	var vs, ts float64
	for seed := 0; seed < *seeds; seed++ {
		o := hostgpu.TrainOptions{Seed: uint64(seed + 1)}
		if err := json.Unmarshal([]byte(*opts), &o); err != nil {
			panic(err)
		}
		t, err := hostgpu.NewTrainer(d, sp, nil, o)
		if err != nil {
			panic(err)
		}
		t0 := time.Now()
		ep := 0
		curve := []string{}
		err = t.Run(context.Background(), "", func(p hostgpu.Progress) {
			if p.Done {
				ep = p.Epoch
				if !*quiet {
					fmt.Printf("  epoch %d loss %.4f valid %.4f best %.4f@%d %.0fs\n", p.Epoch, p.Loss, p.NDCG, p.Best, p.BestEpoch, time.Since(t0).Seconds())
				}
				if p.Epoch%5 == 0 {
					curve = append(curve, fmt.Sprintf("%.4f", p.NDCG))
				}
			}
		})
		if err != nil {
			panic(err)
		}
		b, be := t.Best()
		el := time.Since(t0).Seconds()
		line := fmt.Sprintf("RESULT %s %s seed %d best valid %.4f @%d of %d, %.0fs %.2fs/epoch curve5 %v", *set, *opts, seed+1, b, be, ep, el, el/float64(ep), curve)
		vs += b
		if *test {
			m, err := t.Model()
			if err != nil {
				panic(err)
			}
			n, h := ndcg(m, sp.Test)
			line += fmt.Sprintf(" TEST ndcg %.4f hr %.4f", n, h)
			ts += n
		}
		fmt.Println(line)
	}
	fmt.Printf("MEAN %s %s valid %.4f test %.4f\n", *set, *opts, vs/float64(*seeds), ts/float64(*seeds))
}
