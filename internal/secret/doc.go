// Package secret replaces the values of secret parameters in text that leaves a process:
// errors, stacks, and what a child process prints.
//
// It looks for each value as it is, and in the forms in which programs write it: quoted,
// escaped, as JSON, in hexadecimal digits, in base64, as a number or a time.
package secret
