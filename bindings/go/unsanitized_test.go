//go:build !race && !asan

package kvc

const sanitized = false
