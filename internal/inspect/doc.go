// Package inspect looks into the queues of a broker together, and changes what is there: it
// is what runtime.Inspector is made of.
//
// A look reads many queues at once, as far as the broker can (maintenance.Surveyor), and the
// others some at a time. A queue that cannot be read is skipped: it holds up none of the
// others, and is named beside what was found.
package inspect
