//go:build race

package cluster

// raceDetector slows workers down and shuffles goroutines.
const raceDetector = true
