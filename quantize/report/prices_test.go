package report_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/quantize/report"
)

func TestDefaultPrices(t *testing.T) {
	p, err := report.ReadPrices("prices.yaml", report.DefaultPrices)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, in := range p.Instances {
		kinds[in.Kind] = true
	}
	if p.Currency != "USD" || p.Workload.RequestsPerDay != 1e7 || !reflect.DeepEqual(kinds, map[string]bool{"cpu": true, "gpu": true, "tpu": true}) {
		t.Errorf("%+v", p)
	}
	if p.Instances[0].Cores != 2 || p.Instances[0].PricePerHour != 0.04 {
		t.Errorf("the first instance is %+v", p.Instances[0])
	}
}

// changed is the example with one text in the place of another.
func changed(t *testing.T, from, to string) []byte {
	t.Helper()
	if !bytes.Contains(report.DefaultPrices, []byte(from)) {
		t.Fatalf("the example has no %q", from)
	}
	return bytes.Replace(report.DefaultPrices, []byte(from), []byte(to), 1)
}

func TestReadPricesRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		content []byte
		says    []string
	}{
		"typo":             {changed(t, "  requests_per_day:", "  request_per_day:"), []string{"p.yaml:7:", `"request_per_day"`, `did you mean "requests_per_day"?`}},
		"typo in instance": {changed(t, "    price_per_hour: 0.70", "    price-per-hour: 0.70"), []string{"p.yaml:53:", `did you mean "price_per_hour"?`}},
		"unknown key":      {changed(t, "currency: USD", "zzz: 1\ncurrency: USD"), []string{"p.yaml:35:", `"zzz"`, "the keys are workload, currency, instances"}},
		"no number":        {changed(t, "price_per_hour: 0.04", "price_per_hour: cheap"), []string{"p.yaml:39:", `price_per_hour is "cheap", want a number`}},
		"empty value":      {changed(t, "price_per_hour: 0.04", "price_per_hour:"), []string{"p.yaml:39:", "is empty, want a number"}},
		"twice":            {changed(t, "    sites: 10", "    sites: 10\n    sites: 11"), []string{"p.yaml:41:", "sites is there twice, first in line 40"}},
		"missing":          {changed(t, "    watts: 20\n", ""), []string{"p.yaml:37:", "watts is missing"}},
		"cores missing":    {changed(t, "    cores: 2\n", ""), []string{"cores is missing"}},
		"negative":         {changed(t, "price_per_hour: 0.04", "price_per_hour: -1"), []string{"p.yaml:39:", "price_per_hour is -1, must lie between 0"}},
		"nan":              {changed(t, "target_ms: 150", "target_ms: .nan"), []string{"p.yaml:9:", "target_ms is NaN"}},
		"half a site":      {changed(t, "sites: 10", "sites: 1.5"), []string{"p.yaml:40:", "must be a whole number"}},
		"kind":             {changed(t, "kind: tpu", "kind: npu"), []string{`kind is "npu", must be cpu, gpu or tpu`}},
		"name twice":       {changed(t, "name: TPU, 16 GB", "name: large GPU, 80 GB"), []string{"two instances have the name"}},
		"full":             {changed(t, "max_utilisation: 0.7", "max_utilisation: 1"), []string{"p.yaml:11:", "max_utilisation is 1, must lie between 0.01 and 0.99"}},
		"no list":          {[]byte("workload: {}\n"), []string{"p.yaml:1:", "requests_per_day is missing"}},
		"scalar":           {[]byte("7\n"), []string{"p.yaml:1:", "workload, currency, instances"}},
		"list for scalar":  {changed(t, "currency: USD", "currency: [USD]"), []string{"currency is a list, want a text"}},
		"empty":            {[]byte("# nothing\n"), []string{"p.yaml is empty"}},
		"no yaml":          {[]byte("a: [\n"), []string{"p.yaml cannot be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := report.ReadPrices("p.yaml", test.content)
			if !errors.Is(err, report.ErrPrices) {
				t.Fatalf("error %v, want ErrPrices", err)
			}
			if strings.Count(err.Error(), "invalid prices") != 1 {
				t.Errorf("the error repeats itself: %v", err)
			}
			for _, w := range test.says {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error lacks %q: %v", w, err)
				}
			}
		})
	}
}

// Each key of the table is there with what it is and where to get it.
func TestDefaultPricesSayWhere(t *testing.T) {
	text := string(report.DefaultPrices)
	for _, typ := range []reflect.Type{reflect.TypeFor[report.Workload](), reflect.TypeFor[report.Instance]()} {
		for i := range typ.NumField() {
			key := typ.Field(i).Tag.Get("yaml")
			if typ.Field(i).Type.Kind() != reflect.Float64 {
				continue
			}
			if report.Described(key) == "" {
				t.Errorf("the example does not say what %s is:\n%s", key, text)
			}
		}
	}
}

func FuzzReadPrices(f *testing.F) {
	f.Add(report.DefaultPrices)
	f.Add([]byte("workload: &a\n  x: *a\n"))
	f.Add([]byte("instances:\n  - {kind: gpu}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := report.ReadPrices("p.yaml", b)
		if err != nil {
			if !errors.Is(err, report.ErrPrices) {
				t.Errorf("error %v does not wrap ErrPrices", err)
			}
			return
		}
		if err := p.Validate(); err != nil {
			t.Errorf("read, and yet not valid: %v", err)
		}
	})
}
