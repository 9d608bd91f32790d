package namedlock

import "github.com/go-namedlock/namedlock/internal/inside"

// For package locktest, whose users name locks as their code does.
func init() {
	inside.Namespace = func(locker any) string { return locker.(*Locker).namespace }
}
