package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/quantize/report"
)

// Files of a report's folder.
const (
	reportPage = "index.html"
	reportData = "report.json"
)

func newReport() *cobra.Command {
	var b reportBuild
	var from, pricesFile, out string
	var perDay, target float64
	c := &cobra.Command{
		Use:   "report",
		Short: "Show what a teacher and its students cost and are worth",
		Long: `Measures a teacher and its students side by side and writes a page of HTML that needs
no other file, and the same figures as JSON: parameters, bytes on disk and in memory,
multiply-accumulates of a request, latency, throughput for each number of threads,
energy, quality with intervals, the error of each layer, bytes over the network; and
how many machines, and how much money, it takes to serve them, beside a language
model, BERT-base and the browser.

Prices are an example until you give your own: "wisp report prices" writes the table to
edit. --from takes the measurements of an earlier report and works out the cost anew.

An artefact's layers are compared with the model that it was made of, if that is
--model or a --student.`,
		Example: `  wisp report --data prepared --model model --artefact shop.wisp --out report
  wisp report --data prepared --model teacher --student small --artefact small.wisp --artefact nano.wisp --out report
  wisp report --data prepared --ensemble teacher --student small --artefact small.wisp --out report
  wisp report prices > prices.yaml
  wisp report --from report --prices prices.yaml --requests-per-day 2e6 --out report-prices`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			prices, err := loadPrices(pricesFile)
			if err != nil {
				return err
			}
			if err := checkReportDir(out); err != nil {
				return err
			}
			var r *report.Report
			if from != "" {
				if r, err = readReport(from); err != nil {
					return err
				}
				if pricesFile != "" {
					r.Prices = *prices
				}
			} else {
				if r, err = b.run(cmd, prices); err != nil {
					return err
				}
			}
			if perDay != 0 {
				r.Prices.Workload.RequestsPerDay = perDay
			}
			if target != 0 {
				r.Prices.Workload.TargetMS = target
			}
			if err := r.Prices.Validate(); err != nil {
				return err
			}
			r.Plan()
			if err := writeReport(out, r); err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			for _, line := range r.Summary() {
				fmt.Fprintln(w, line)
			}
			fmt.Fprintf(w, "the report: %s\n", filepath.Join(out, reportPage))
			return nil
		},
		PreRunE: func(*cobra.Command, []string) error {
			if from != "" && (b.data != "" || b.ensemble != "" || b.model != "" || len(b.artefacts) > 0 || len(b.students) > 0) {
				return errors.New("--from takes the measurements of an earlier report: give it without --data, --ensemble, --model, --student and --artefact")
			}
			if from == "" && (b.data == "" || b.model == "" && b.ensemble == "") {
				return errors.New("give --data and --model (or --ensemble) to measure, or --from for an earlier report")
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&b.data, "data", "", "the prepared data that the models were trained on")
	f.StringVar(&b.ensemble, "ensemble", "", "folder of an ensemble that is the teacher; --model then is a student")
	f.StringVar(&b.model, "model", "", "folder of the teacher")
	f.StringArrayVar(&b.students, "student", nil, "folder of a further float32 model; may be repeated")
	f.StringArrayVar(&b.artefacts, "artefact", nil, "a .wisp file; may be repeated")
	f.StringVar(&b.encoder, "encoder", "", "text encoder that the teacher was trained with, to be counted with it: a folder"+orBuiltin)
	f.StringVar(&b.previous, "previous", "", "the .wisp file that is held where an update arrives, to count what it fetches")
	f.IntSliceVar(&b.threads, "threads", nil, "numbers of threads to measure (default: powers of two, up to all processors)")
	f.DurationVar(&b.round, "round", 400*time.Millisecond, "length of a round of throughput; there are five for each number of threads")
	f.IntVar(&b.cases, "cases", 0, "test cases to measure quality on (default all)")
	f.StringVar(&pricesFile, "prices", "", "table of machines and prices (default: an example)")
	f.Float64Var(&perDay, "requests-per-day", 0, "traffic to plan for (default: that of the table)")
	f.Float64Var(&target, "target-ms", 0, "latency to plan for, in milliseconds (default: that of the table)")
	f.StringVar(&from, "from", "", "folder of an earlier report, whose measurements are taken")
	f.StringVar(&out, "out", "", "folder for the report")
	required(c, "out")
	c.AddCommand(newReportPrices())
	return c
}

func newReportPrices() *cobra.Command {
	return &cobra.Command{
		Use:     "prices",
		Short:   "Write the example of the table of prices",
		Long:    `Writes the table of machines and prices that a report assumes, with what each value is and where to get yours.`,
		Example: `  wisp report prices > prices.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(report.DefaultPrices)
			return err
		},
	}
}

// loadPrices reads a table of prices, the example where path is empty.
func loadPrices(path string) (*report.Prices, error) {
	if path == "" {
		return report.ReadPrices("the example", report.DefaultPrices)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--prices: %w; check the path, or write a table with wisp report prices", err)
	}
	return report.ReadPrices(path, b)
}

// checkReportDir says beforehand that a report cannot be written into a folder: it
// may be new, empty, or that of a report.
func checkReportDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("%w; name another folder", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("%w; name another folder", err)
	case len(entries) == 0:
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, reportData)); err != nil {
		return fmt.Errorf("%s holds something else than a report (%s); name another folder", dir, entries[0].Name())
	}
	return nil
}

// readReport reads the measurements in the folder of a report, or in its JSON file.
func readReport(path string) (*report.Report, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, reportData)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--from: %w; name the folder of a report", err)
	}
	return report.Unmarshal(path, b)
}

// writeReport writes the page and then the JSON.
func writeReport(dir string, r *report.Report) error {
	page, err := r.HTML()
	if err != nil {
		return err
	}
	figures, err := r.Marshal()
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, reportPage), page); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, reportData), figures)
}

// reportBuild is what a report is made of.
type reportBuild struct {
	data, ensemble, model string
	encoder, previous     string
	students, artefacts   []string
	threads               []int
	round                 time.Duration
	cases                 int
}

// run measures what the flags name.
func (b *reportBuild) run(cmd *cobra.Command, prices *report.Prices) (*report.Report, error) {
	p := newProgress(cmd)
	defer p.done()
	in, err := b.load(cmd.Context(), p)
	if err != nil {
		return nil, err
	}
	defer in.close(context.WithoutCancel(cmd.Context()))
	r, err := in.measure(cmd.Context(), *prices, p)
	if err != nil {
		return nil, err
	}
	r.Made = report.Made{At: time.Now().UTC().Format(time.RFC3339), Wisp: version(), Command: commandLine(cmd, nil)}
	return r, nil
}
