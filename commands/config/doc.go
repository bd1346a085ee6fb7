// Package config reads daos_server.yml, daos_agent.yml and daos_control.yml (and
// the older daos.yml) of every release since 0.4.
//
// A file goes through four steps, each of which adds to one list of problems, so
// that a user sees everything that is wrong at once:
//
//  1. The text becomes a tree: bounded in size, nesting and number of nodes (also
//     after aliases), one document, no duplicate keys.
//  2. The legacy table (legacy.go) rewrites keys of older releases to their
//     successors, drops the ones without effect and refuses the impossible ones,
//     with one hint per key that names file and line.
//  3. The tree is decoded into the structs: the yaml tags are the only list of
//     known keys, and the position of every value is kept.
//  4. Overrides of the command line, defaults and the propagation from the top
//     level to the engines are applied (Resolve), and the rules between keys are
//     checked (Validate).
//
// OpenServer, OpenAgent and OpenControl do all four. Every problem is a
// *fault.Error whose Data has "file", "line", "column" and "key"; the codes of
// rules are the ones scripts know from the inherited fault table.
package config
