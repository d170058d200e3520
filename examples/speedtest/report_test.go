package main

import (
	"strings"
	"testing"
)

var sample = []result{
	{Name: "anchor", TputMbps: 200, Tput4Mbps: 400, CPUPerGbit: 2, RTTP50us: 100, RTTP99us: 1000, ConnectMS: 20, DialP50MS: 0.5, ResidentMB: 40, Goroutines: 80},
	{Name: "raw", TputMbps: 300, Tput4Mbps: 100, RTTP50us: 50, RTTP99us: 500, ConnectMS: 4, DialP50MS: 4, ResidentMB: 20, Goroutines: 40},
}

func TestTable(t *testing.T) {
	var out strings.Builder
	r := newReport(&out, false)
	for _, s := range sample {
		if err := r.add(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"                  anchor    raw  /anchor",
		"       tput_mbps   200.0  300.0    x1.50",
		"      tput4_mbps   400.0  100.0    x0.25",
		"  cpu_s_per_gbit    2.00      -        -",
		"      rtt_p50_us     100     50    x0.50",
		"      rtt_p99_us    1000    500    x0.50",
		"      connect_ms    20.0    4.0    x0.20",
		"     dial_ms_p50    0.50   4.00    x8.00",
		"          rss_mb    40.0   20.0    x0.50",
		"      goroutines      80     40    x0.50",
	}
	if got := out.String(); got != strings.Join(want, "\n")+"\n" {
		t.Errorf("got:\n%swant:\n%s", got, strings.Join(want, "\n"))
	}
}

func TestJSON(t *testing.T) {
	var out strings.Builder
	r := newReport(&out, true)
	if err := r.add(sample[1]); err != nil {
		t.Fatal(err)
	}
	want := `{"name":"raw","tput_mbps":300,"tput4_mbps":100,"rtt_p50_us":50,"rtt_p99_us":500,` +
		`"connect_ms":4,"dial_ms_p50":4,"rss_mb":20,"goroutines":40}` + "\n"
	if out.String() != want {
		t.Errorf("got %swant %s", out.String(), want)
	}
}
