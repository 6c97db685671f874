// Package kvc keeps the key/value cache of LLM inference compressed and computes attention from the compressed pages.
//
// A Cache holds sequences; a Step is one forward pass over a batch of them: Begin reserves, Append and Attend run once per layer,
// Commit publishes. kvc.h, the header of the library, is the manual: shapes, units and what each call promises are told there.
//
// Every object may be used from any goroutine, and closed at any time and in any order; a call on what has ended is ErrHandle.
// Objects that are dropped without Close are released by the garbage collector. Slices reach the library as they are, without a
// copy, and none is kept. kvc needs a 64-bit target, where int holds every number of the library.
package kvc

import (
	"math"
	"strings"

	"kvc/raw"
)

const _ = uint(math.MaxInt64) // does not compile where int has 32 bits

func init() {
	if mismatch := raw.Kvc_abi_mismatch(); mismatch != "" {
		panic("kvc: " + mismatch)
	}
}

// Version of the library that was loaded, as "1.2.3".
func Version() string { return raw.Kvc_version() }

// ABIVersion is the version of the library's binary interface. One that differs from what this package was compiled against, or a
// struct that does, makes the program panic when it starts.
func ABIVersion() int { return int(raw.Kvc_abi_version()) }

// BuildInfo names the compiler, options and kernel targets of the library, in one line.
func BuildInfo() string { return raw.Kvc_build_info() }

// ABIDescription lists every public struct and enum of the library, one a line.
func ABIDescription() string {
	text := make([]byte, raw.Kvc_abi_describe(nil))
	raw.Kvc_abi_describe(text)
	return strings.TrimSuffix(string(text), "\x00")
}

// Presets names the codecs that have a name of their own, such as "int4".
func Presets() []string { return names(raw.Kvc_preset_count(), raw.Kvc_preset_name) }

// Policies names the eviction policies.
func Policies() []string { return names(raw.Kvc_policy_count(), raw.Kvc_policy_name) }

// Targets names the kernel targets that this machine can run, best first.
func Targets() []string { return names(raw.Kvc_target_count(), raw.Kvc_target_name) }

func names(count int64, name func(int64) string) []string {
	list := make([]string, count)
	for i := range list {
		list[i] = name(int64(i))
	}
	return list
}

// FormatCodec parses a codec and gives its canonical string.
func FormatCodec(codec string) (string, error) {
	if err := checkText("codec_format", "codec", codec, math.MaxInt64); err != nil {
		return "", err
	}
	return describe("codec_format", func(out []byte, c *crossing) int64 { return raw.Kvc_codec_format(codec, out, c.failure) })
}

// FormatPolicy parses an eviction policy and gives its canonical string, with all defaults.
func FormatPolicy(policy string) (string, error) {
	if err := checkText("policy_format", "policy", policy, math.MaxInt64); err != nil {
		return "", err
	}
	return describe("policy_format", func(out []byte, c *crossing) int64 { return raw.Kvc_policy_format(policy, out, c.failure) })
}

// DeviceCount counts the devices of a kind; without any it is ErrUnsupported, and the message says why.
func DeviceCount(device Device) (int, error) {
	var count int64
	err := cross("device_count", func(c *crossing) raw.Kvc_status {
		count = raw.Kvc_device_count(device.value(), c.failure)
		return c.made(count != 0)
	})
	return int(count), err
}

// DescribeDevice names one device of a kind.
func DescribeDevice(device Device, ordinal int) (string, error) {
	return describe("device_describe", func(out []byte, c *crossing) int64 {
		return raw.Kvc_device_describe(device.value(), int64(ordinal), out, c.failure)
	})
}

// describe asks for a text's size and then for the text, which ends with a NUL.
func describe(operation string, ask func(out []byte, c *crossing) int64) (string, error) {
	var text []byte
	err := cross(operation, func(c *crossing) raw.Kvc_status {
		bytes := ask(nil, c)
		if bytes > 0 {
			text = make([]byte, bytes)
			bytes = ask(text, c)
		}
		return c.made(bytes > 0)
	})
	return strings.TrimSuffix(string(text), "\x00"), err
}
