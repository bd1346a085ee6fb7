//go:build !race

package control

const fleetSize = 300
