# Every target works on a fresh clone; `make help` lists them.
.DEFAULT_GOAL := help
GO ?= go
PKG ?= ./redis ./runtime ./redis/contracttest ./runtime/taskapp ./internal/subprocess ./... # what takes longest begins first

# The tests that have a longer form.
SOAK = NoRunIsLostToAnErrorOfAScript|ContractAsDeployed|CancelRaces|$\
	SchedulersKilledAtRandom|DaysOfFiftySchedules|ThousandsOfTicks|PoisonsTakeNoGoodRuns|TasksThatBurnProcessors|$\
	StartsLeaveNothing|OrphansAreReaped|AChildWaits|FiveYears|TreesEndAsWithoutFaults|PrometheusAgrees|$\
	ManyRunsAreCancelled|ManyQueuesCostFewCommands|PagesOfMuchCostLittle|ManyViewersCostAsOne

# The packages that are tested without the race detector: they start no goroutines, or
# are examples or drive a browser, whose goroutines are those of packages tested with it.
PLAIN = . ./cmd/... ./codec ./dashboard/browsertest ./examples/... ./internal/codectest ./internal/compat ./internal/cron ./internal/directive ./internal/jsonform $\
	./internal/naming ./internal/openapi ./internal/ordered ./internal/scan ./internal/schema ./internal/suggest ./internal/text ./internal/ulid ./internal/urlaccess

.PHONY: help man generate build test test-local soak pictures fuzz lint vuln check-generate bench bench-generate compat check redis-server prometheus luacheck chromium clients

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

generate: ## write the generated code of the examples
	$(GO) generate ./...
	cd bench && $(GO) tool taskgen ./...

build: ## compile everything, for Linux and for the other systems, there the tests too
	$(GO) build ./...
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...

# The programs that tests build get the race detector too, from the packages that are
# compiled with it already; `make lint` vets. Most tests wait most of their time.
test: tested = $(or $(shell $(GO) list -e $(PKG)),$(error no packages to test))
test: plain = $(filter $(shell $(GO) list -e $(PLAIN)),$(tested))
test: raced = $(filter-out $(plain),$(tested))
test: redis-server prometheus chromium bin/axe/.fetched clients ## run all tests, with the race detector where there are goroutines
	$(if $(raced),GOFLAGS='$(GOFLAGS) -race' GORACE=atexit_sleep_ms=0 GOGC=400 $(GO) test -vet=off -timeout 20m -p 3 -parallel 4 $(raced))
	$(if $(plain),$(GO) test -vet=off -timeout 20m -parallel 4 $(plain))
	cd bench && $(GO) test -vet=off ./...

test-local: ## run the tests of the packages that need no Redis
	$(GO) test $$($(GO) list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | grep -vE 'internal/(redistest|promtest|openapi/clients)' | cut -d ' ' -f 1)

soak: redis-server prometheus ## start 5,000 child processes and see that nothing is left of them; kill schedulers for a minute; the longer runs of what is short in test
	TASKGEN_SOAK=1 $(GO) test -count=1 -timeout 30m -p 4 -parallel 5 -run '$(SOAK)' ./redis ./redis/contracttest ./runtime/taskapp ./internal/subprocess ./runtime ./internal/cron ./internal/testapp/trees ./dashboard

pictures: redis-server chromium ## let the example of the dashboard run, and write pictures of its pages to docs/img
	TASKGEN_PICTURES=$(CURDIR)/docs/img $(GO) test -count=1 -timeout 10m -run 'TestPicturesOfPages' ./dashboard/browsertest

man: ## write the man pages of the greeter to bin/man; tools/man shows how
	cd tools/man && $(GO) run . ../../bin/man

fuzz: ## fuzz every fuzz target for 20s
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime 20s $$pkg || exit 1; \
		done; \
	done

lint: bin/staticcheck luacheck ## gofmt, vet, staticcheck, luacheck, the glossary, imports and habits
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-clean:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	bin/staticcheck ./...
	cd bench && $(GO) vet ./... && ../bin/staticcheck ./...
	$(GO) run ./redis/internal/script/print bin/scripts && luacheck --quiet --no-color --config .luacheckrc bin/scripts
	$(GO) test -count=1 -run 'Words|Imports|Imported|Packages|Habits|Sleep' .
	cd tools/man && $(GO) vet ./... && ../../bin/staticcheck ./...

vuln: ## report known vulnerabilities; needs the network
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

check-generate: generate ## fail if the generated code in git is not what taskgen writes
	@test -z "$$(git status --porcelain -- '*_gen.go')" || { echo "make generate changed files; commit them:"; git status --short -- '*_gen.go'; exit 1; }

bench: redis-server ## compare with other task queues, and write docs/benchmarks.md
	cd bench && $(GO) run . -write ../docs && $(GO) run ./codec

bench-generate: ## how long taskgen takes, as whole processes
	$(GO) test -run '^$$' -bench Generate -benchtime 9x ./cmd/taskgen

compat: bin/compat/.unpacked ## test the Redis broker on Redis 8 and Valkey 8
	@for server in redis-server valkey-server; do \
		echo "on $$(bin/compat/$$server --version):"; \
		TASKGEN_REDIS_SERVER=$(CURDIR)/bin/compat/$$server $(GO) test -race -count=1 -timeout 20m ./redis ./redis/contracttest || exit 1; \
	done

check: lint build check-generate test ## all that has to pass before a change lands

# The linter is built from a module of its own, so that it reaches no user's go.mod.
bin/staticcheck: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$@ honnef.co/go/tools/cmd/staticcheck

# The servers of a newer Debian; rm -r bin/compat brings their updates.
bin/compat/.unpacked: internal/redistest/compat.sh
	@internal/redistest/compat.sh bin/compat
	@touch $@

# It sees the scripts as the server does: with their includes, and places for names.
luacheck:
	@command -v luacheck >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends lua-check >/dev/null; \
	} || { echo "luacheck is needed: install it, for example with: sudo apt-get install lua-check"; exit 1; }

# Tests and benchmarks start their own servers; here is only the binary they need.
redis-server:
	@command -v redis-server >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends redis-server >/dev/null; \
	} || { echo "redis-server (7.0 or newer) is needed: install it, for example with: sudo apt-get install redis-server"; exit 1; }

# The server that scrapes in tests, and promtool, which checks the alerts.
prometheus:
	@command -v prometheus >/dev/null && command -v promtool >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends prometheus >/dev/null; \
	} || { echo "prometheus (2.42 or newer, with promtool) is needed: install it, for example with: sudo apt-get install prometheus"; exit 1; }

# The public generators of clients of the HTTP API, as their lock file says, and what their
# clients run on. Go ignores a folder whose name begins with an underscore.
clients: bin/_clients/.installed
	@command -v curl >/dev/null && test -e /usr/bin/python3 && /usr/bin/python3 -c 'import dateutil' 2>/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends curl python3 python3-dateutil >/dev/null; \
	} || { echo "curl and python3 with dateutil are needed: install them, for example with: sudo apt-get install curl python3-dateutil"; exit 1; }

bin/_clients/.installed: internal/openapi/clients/package.json internal/openapi/clients/package-lock.json
	@command -v npm >/dev/null || { echo "npm with Node.js 20 is needed: install it, for example from nodejs.org"; exit 1; }
	@mkdir -p bin/_clients && cp $^ bin/_clients/
	cd bin/_clients && npm ci --no-audit --no-fund --ignore-scripts
	@touch $@

# The browser of the dashboard's tests, and fonts, without which it shows no text.
chromium:
	@command -v chromium >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-liberation fonts-dejavu-core >/dev/null; \
	} || { echo "chromium is needed: install it, for example with: sudo apt-get install chromium"; exit 1; }

# Its licence, MPL 2.0, is another than this module's: it is fetched, and in no commit.
bin/axe/.fetched: tools/axe/package.json tools/axe/package-lock.json
	@command -v npm >/dev/null || { echo "npm is needed, which fetches axe-core: install Node.js 18 or newer"; exit 1; }
	@mkdir -p bin/axe && cp tools/axe/*.json bin/axe && cd bin/axe && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@
