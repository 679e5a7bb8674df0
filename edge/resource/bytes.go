package resource

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size in bytes. In YAML it is a number of bytes or a number with a unit: decimal (kB, MB, GB, TB, or K, M, G,
// T as in Kubernetes quantities) or binary (KiB, MiB, GiB, TiB, or Ki, Mi, Gi, Ti). It is never negative.
type Bytes int64

// sizeUnits are tried in this order, so that a longer unit comes before one that it ends with.
var sizeUnits = [...]struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12},
	{"B", 1},
}

var (
	errSize      = errors.New("is not a size")
	errSizeRange = errors.New("is too large")
)

// ParseBytes reads a size such as 64MiB, 4MB, 4Mi, 1.5GiB or 4096.
func ParseBytes(s string) (Bytes, error) {
	number, factor := strings.TrimSpace(s), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	if number == "" || strings.Trim(number, "0123456789.") != "" {
		return 0, errSize
	}
	if whole, err := strconv.ParseInt(number, 10, 64); err == nil {
		if whole > math.MaxInt64/factor {
			return 0, errSizeRange
		}
		return Bytes(whole * factor), nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, errSize
	}
	if f *= float64(factor); f >= math.MaxInt64 {
		return 0, errSizeRange
	}
	return Bytes(f), nil
}

// UnmarshalText reads a size as ParseBytes does.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = v
	return nil
}

// MarshalText writes the size as String does.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String returns the size in the largest binary unit that keeps it exact, such as 64MiB; ParseBytes reads it back.
func (b Bytes) String() string {
	for _, u := range [...]struct {
		suffix string
		factor Bytes
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if b >= u.factor && b%u.factor == 0 {
			return fmt.Sprintf("%d%s", b/u.factor, u.suffix)
		}
	}
	return fmt.Sprintf("%dB", int64(b))
}
