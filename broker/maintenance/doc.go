// Package maintenance has interfaces of a broker for the people who operate it: audits,
// reports of damage, surveys of many queues. They are no part of the contract of package
// broker, and a backend needs none of them. The runtime and the command line find them by
// assertion on the broker.
package maintenance
