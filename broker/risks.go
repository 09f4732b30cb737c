package broker

import "context"

// RiskReporter is a broker whose server can lose runs that it has accepted, depending
// on how it is configured. The command serve and a consumer log its risks.
type RiskReporter interface {
	// Risks asks the server for its risks and blocks until it has answered. If thorough
	// is false it asks only what each user of the broker may ask, so that it can be
	// called every few seconds. It may be called concurrently.
	Risks(ctx context.Context, thorough bool) (Risks, error)
}

// Risks is how a broker's server may lose runs that it has accepted.
type Risks struct {
	Server  string   // its address, "" if there is none
	Summary string   // how it keeps runs, one line for people
	Found   []string // each risk and its remedy, one line for people; empty if there is none
}
