package cron_test

import (
	"testing"
	"time"

	"github.com/taskgen/taskgen/internal/cron"
)

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := cron.Parse("*/15 9-17 1,15 jan-jun mon-fri"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	for _, c := range []struct{ zone, spec string }{
		{"UTC", "*/5 * * * *"},
		{"UTC", "0 3 * * *"},
		{"America/New_York", "*/5 * * * *"},
		{"America/New_York", "0 3 * * *"},
		{"UTC", "0 0 29 2 */7"},                  // up to 40 years apart
		{"Africa/Casablanca", "0 */24 29 2 */7"}, // as far, over each change of the clock
	} {
		b.Run(c.zone+" "+c.spec, func(b *testing.B) {
			s, loc := parse(b, c.spec), zone(b, c.zone)
			start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
			at := start
			for b.Loop() {
				var ok bool
				if at, ok = s.Next(at, loc); !ok {
					at = start
				}
			}
		})
	}
}
