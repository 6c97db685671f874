//go:build !kvc_gc_stress

package kvc

const stressed = false

func collect() {}
