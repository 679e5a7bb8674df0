package telemetry

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/disk"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"
)

// Reading is the health of the device at one moment. A figure that this machine cannot give is absent (nil).
type Reading struct {
	Time              time.Time `json:"time"`
	CPUPercent        *float64  `json:"cpuPercent,omitempty"` // of all cores, since the reading before
	Load1             *float64  `json:"load1,omitempty"`
	MemoryUsedPercent *float64  `json:"memoryUsedPercent,omitempty"`
	MemoryAvailable   *uint64   `json:"memoryAvailableBytes,omitempty"`
	DiskUsedPercent   *float64  `json:"diskUsedPercent,omitempty"` // of the file system that holds the data folder
	DiskFree          *uint64   `json:"diskFreeBytes,omitempty"`
	Temperature       *float64  `json:"temperatureCelsius,omitempty"` // the hottest thermal zone
}

// ReadDevice measures the device. It returns what it could read together with the errors of what it could not.
func ReadDevice(ctx context.Context, dataFolder string, now time.Time) (Reading, error) {
	r := Reading{Time: now.UTC()}
	var errs []error
	if p, err := cpu.PercentWithContext(ctx, 0, false); err != nil || len(p) == 0 {
		errs = append(errs, err)
	} else {
		r.CPUPercent = &p[0]
	}
	if l, err := load.AvgWithContext(ctx); err != nil {
		errs = append(errs, err)
	} else {
		r.Load1 = &l.Load1
	}
	if m, err := mem.VirtualMemoryWithContext(ctx); err != nil {
		errs = append(errs, err)
	} else {
		r.MemoryUsedPercent, r.MemoryAvailable = &m.UsedPercent, &m.Available
	}
	if d, err := disk.UsageWithContext(ctx, dataFolder); err != nil {
		errs = append(errs, err)
	} else {
		r.DiskUsedPercent, r.DiskFree = &d.UsedPercent, &d.Free
	}
	r.Temperature = hottestZone(os.DirFS("/sys/class/thermal"))
	return r, errors.Join(errs...)
}

// hottestZone reads the thermal zones of the kernel (sysfs, millidegrees Celsius).
func hottestZone(sys fs.FS) *float64 {
	zones, err := fs.Glob(sys, "thermal_zone*/temp")
	if err != nil {
		return nil
	}
	var hottest *float64
	for _, z := range zones {
		b, err := fs.ReadFile(sys, z)
		if err != nil {
			continue // a zone may refuse to be read while its sensor sleeps
		}
		milli, err := strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
		if c := milli / 1000; err == nil && (hottest == nil || c > *hottest) {
			hottest = &c
		}
	}
	return hottest
}
