package lateness

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"time"
)

const (
	// easy is how many threads may want to run for each processor before what a
	// test configures is too short.
	easy = 4
	// stretchMost is the most by which Stretch multiplies: a thread that wakes up
	// goes before those that run all the time, however many they are.
	stretchMost = 4
	// looks is how often Stretch counts the threads, and pause the time between
	// two counts.
	looks, pause = 10, 10 * time.Millisecond
)

// Stretch returns d, stretched on a busy machine, for an interval in which a
// server has to answer. It returns d with up to four runnable threads for each
// processor, twice d with eight, and four times d with 16 or more. It takes 100
// ms. Systems other than Linux do not report the number of threads; there it
// returns d.
func Stretch(d time.Duration) time.Duration {
	least := crowd()
	for range looks { // many threads in only one count do not matter
		time.Sleep(pause)
		least = min(least, crowd())
	}
	return stretch(d, max(least, minute()))
}

func stretch(d time.Duration, crowd float64) time.Duration {
	return time.Duration(float64(d) * min(max(1, crowd/easy), stretchMost))
}

// minute returns the mean of crowd over the last minute, 0 if the system does
// not report it.
func minute() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	return load(text) / float64(runtime.NumCPU())
}

func load(text []byte) float64 {
	first, _, _ := bytes.Cut(text, []byte(" "))
	n, _ := strconv.ParseFloat(string(first), 64)
	return n
}
