//go:build !kvc_gc_stress

package kvc

func collect() {}
