// Package cron parses cron expressions, finds the instants they stand for and
// explains both in English.
//
// # Expressions
//
// An expression has five fields, separated by blanks: minute (0-59), hour
// (0-23), day of month (1-31), month (1-12 or jan-dec) and day of week (0-7 or
// sun-sat; 0 and 7 are Sunday). A field is a list of elements, separated by
// commas; an element is a value, a range (9-17, mon-fri, sat-sun), or * for all
// values. A range or * takes a step: */15, 10-50/20. The value L of the day of
// month is its last: "59 23 L * *", "0 12 15,L * *". Names are the first three
// letters of the English ones, in either case. @yearly, @annually, @monthly,
// @weekly, @daily, @midnight and @hourly stand for a whole expression.
//
// As in Vixie cron, a field that starts with * is unrestricted. When neither
// day field is, a day need only fit one of them: "0 0 13 * 5" is the 13th, and
// every Friday. Else a day must fit both, and so "0 0 */2 * mon" is the Mondays
// with an odd number.
//
// More narrow than some crons, for what is accepted should do what it seems to
// say: a step after a single value (5/15: write 5-59/15), a range that runs
// backwards (22-2: write 22-23,0-2), a step longer than its range, a day that
// never comes (the 30th of February), seconds, years, ?, L of a weekday or in a range, W, #, @every,
// @reboot and a zone inside the expression are refused, with a hint.
//
// # Clock changes
//
// The rule depends on the hour field alone.
//
// An hour field that does not start with * names times of the day. Each
// matching time runs when the zone's clock first shows it or a later one:
//   - skipped when the clock is put forward, it runs at the first instant after
//     the gap; several that fall into one gap run there once, together with
//     what is due at that instant anyway;
//   - repeated when the clock is put back, it runs the first time only.
//
// So "30 2 * * *" runs once a day in New York, on the day in March without a
// 02:30 at 03:00; and what was due on 30 December 2011, a day that Samoa left
// out, ran at the start of the 31st.
//
// An hour field that starts with * follows real time: an expression runs
// whenever the zone's clock shows a matching minute. It runs in both passes of
// a repeated hour and not in a skipped one, so "*/30 * * * *" runs every 30
// minutes of elapsed time, also on Lord Howe Island, whose clock moves by 30
// minutes. The same goes for */2, where the intervals around a change are not
// two hours, and for */24: for once a day write 0.
//
// Other Go packages decide otherwise. Run over 2024 with "30 2 * * *" and
// "30 1 * * *" in New York, robfig/cron 3.0.1 and gronx 1.20.4 leave out the day
// without a 02:30 and netresearch/go-cron 0.9.1 runs at 03:30, robfig/cron and
// netresearch/go-cron run a repeated 01:30 twice, and gronx, which runs it once,
// leaves out the second pass of "0 * * * *" when Santiago repeats the hour
// before midnight. For netresearch/go-cron "0 0 13 * 5" is Friday the 13th.
package cron
