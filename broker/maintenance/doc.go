// Package maintenance is what a broker can offer to those who operate it beyond the
// contract of package broker: audits of what it stores, reports of what it found
// broken, and looks into many queues at once. A backend needs none of it. The runtime
// and the command line find it by assertion on the broker.
package maintenance
