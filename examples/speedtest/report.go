package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// report takes the results as they come. end is called after the last.
type report interface {
	add(result) error
	end() error
}

func newReport(w io.Writer, asJSON bool) report {
	if asJSON {
		return jsonReport{w}
	}
	return &tableReport{w: w}
}

// jsonReport prints an object a line.
type jsonReport struct{ w io.Writer }

func (r jsonReport) add(res result) error { return json.NewEncoder(r.w).Encode(res) }
func (r jsonReport) end() error           { return nil }

// tableReport prints a line per figure and a column per contender; the columns of the others
// have their ratio to the first beside them.
type tableReport struct {
	w       io.Writer
	results []result
}

func (r *tableReport) add(res result) error {
	r.results = append(r.results, res)
	return nil
}

// figures are the lines of the table.
var figures = []struct {
	name   string
	format string
	of     func(result) float64
}{
	{"tput_mbps", "%.1f", func(r result) float64 { return r.TputMbps }},
	{"tput4_mbps", "%.1f", func(r result) float64 { return r.Tput4Mbps }},
	{"cpu_s_per_gbit", "%.2f", func(r result) float64 { return r.CPUPerGbit }},
	{"rtt_p50_us", "%.0f", func(r result) float64 { return r.RTTP50us }},
	{"rtt_p99_us", "%.0f", func(r result) float64 { return r.RTTP99us }},
	{"connect_ms", "%.1f", func(r result) float64 { return r.ConnectMS }},
	{"dial_ms_p50", "%.2f", func(r result) float64 { return r.DialP50MS }},
	{"rss_mb", "%.1f", func(r result) float64 { return r.ResidentMB }},
	{"goroutines", "%.0f", func(r result) float64 { return float64(r.Goroutines) }},
}

func (r *tableReport) end() error {
	if len(r.results) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for i, res := range r.results {
		fmt.Fprintf(t, "\t%s", res.Name)
		if i > 0 {
			fmt.Fprintf(t, "\t/%s", r.results[0].Name)
		}
	}
	fmt.Fprint(t, "\t\n")
	for _, f := range figures {
		fmt.Fprint(t, f.name)
		first := f.of(r.results[0])
		for i, res := range r.results {
			v := f.of(res)
			fmt.Fprint(t, "\t"+number(f.format, v))
			if i > 0 {
				fmt.Fprint(t, "\t"+ratio(v, first))
			}
		}
		fmt.Fprint(t, "\t\n")
	}
	return t.Flush()
}

// number formats a figure; one that is not known is a dash.
func number(format string, v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

func ratio(v, first float64) string {
	if v == 0 || first == 0 {
		return "-"
	}
	return fmt.Sprintf("x%.2f", v/first)
}
