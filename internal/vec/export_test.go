package vec

// Plain runs f with the plain loops alone.
func Plain(f func()) {
	defer func(w bool) { wide = w }(wide)
	wide = false
	f()
}
