# daosbox: one executable. `make` alone says what can be made.
.DEFAULT_GOAL := help
SHELL := /bin/sh

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 1m
# The benchmark below testdata is a program of its own; ./... does not see it.
PACKAGES := ./... ./testdata/bench/box

PREFIX ?= /usr/local
BINDIR := $(DESTDIR)$(PREFIX)/bin
MANDIR := $(DESTDIR)$(PREFIX)/share/man/man8
COMPDIR := $(DESTDIR)$(PREFIX)/share/bash-completion/completions

# The tools that have a command line of their own to complete.
TOOLS := dmg daos_server daos_agent

# The race detector needs cgo and a C compiler. Without one the tests run without it.
RACE := $(shell command -v "$$(go env CC)" >/dev/null 2>&1 && echo -race)

.PHONY: help build demo test vet staticcheck fmt check short sim fuzz bench man completion install clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

build: ## the executable ./daosbox
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o daosbox .

demo: build ## build, bring a system up, use it, take it down
	./daosbox sandbox demo

test: check ## everything that must hold: checks, then all tests
	$(if $(RACE),,@echo "no C compiler: the tests run without the race detector")
	GORACE=atexit_sleep_ms=20 CGO_ENABLED=$(if $(RACE),1,0) go test $(RACE) -timeout 9m ./...

short: check ## checks and the tests that need no whole system
	go test -short ./...

SEEDS ?= 1000
FIRST ?= 1

sim: ## simulate the management service under faults, SEEDS=1000 runs from seed FIRST=1
	go test -count=1 -v -run '^TestSimulation$$' -timeout 30m ./cluster -sim.seeds=$(SEEDS) -sim.first=$(FIRST) -sim.trace=$(if $(filter 1,$(SEEDS)),true,false)

check: fmt vet staticcheck

fmt:
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "gofmt changes: $$unformatted"; exit 1; fi

vet:
	go vet $(PACKAGES)

staticcheck:
	go run $(STATICCHECK) $(PACKAGES)

fuzz: ## every decoder with made-up input, FUZZTIME=1m each
	@set -e; for package in $$(go list ./...); do \
		targets=$$(go test -list '^Fuzz' "$$package"); \
		for target in $$(echo "$$targets" | grep '^Fuzz' || true); do \
			echo "== $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$package"; \
		done; \
	done

bench: build ## times, memory and sizes
	go run ./testdata/bench/box -daosbox ./daosbox
	go test -run '^$$' -bench . -benchtime 200ms ./cluster/... ./engine/... ./commands/agent

man: build ## the manual pages in docs/man
	./daosbox --man docs/man

completion: build ## completion scripts of bash in docs/completion
	@mkdir -p docs/completion
	for tool in $(TOOLS); do ./daosbox $$tool completion bash > docs/completion/$$tool || exit 1; done

install: build completion ## to PREFIX=/usr/local: executable, links, manual pages, completion
	install -d $(BINDIR) $(MANDIR) $(COMPDIR)
	install -m 755 daosbox $(BINDIR)/daosbox
	for name in $$(./daosbox --list); do ln -sf daosbox $(BINDIR)/$$name || exit 1; done
	install -m 644 docs/man/*.8 $(MANDIR)
	install -m 644 $(addprefix docs/completion/,$(TOOLS)) $(COMPDIR)

clean: ## remove what was made
	rm -rf daosbox docs/completion
