package redis

// set sets a value of a map that is made with its first value. Most batches, calls and
// sessions never need such a map.
func set[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}
