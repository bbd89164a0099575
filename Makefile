# Two commands: `make up` starts a cluster, `make test` passes the tests. The rest is for those who work on Martlet.
DATA_DIR ?= /var/lib/martlet
PORT     ?= 6443
NODES    ?= 2
RELEASE  := .build/release/martlet
# Without symbols the program is a quarter of the size and starts faster.
RELEASE_FLAGS := -c release --static-swift-stdlib --product martlet -Xlinker -s

.PHONY: up down status test unit-test cluster-test build release bench golden generate verify-generated clean

## Installs what is needed, builds, starts a cluster with two nodes and waits until it is ready.
up: release
	$(RELEASE) up --nodes $(NODES) --data-dir $(DATA_DIR) --port $(PORT) --detach

## Ends the cluster and removes what it made on this machine. The data stays; REMOVE=1 removes it too.
down:
	$(RELEASE) down --data-dir $(DATA_DIR) $(if $(REMOVE),--remove-data)

status:
	$(RELEASE) status --data-dir $(DATA_DIR)

## All tests: unit and in-process ones, then the real binary with kubectl, then privileged ones. One closing line.
test:
	Tools/install.sh test
	Tools/test.sh

unit-test:
	Tools/install.sh test
	Tools/test.sh unit

cluster-test:
	Tools/install.sh test
	Tools/test.sh cluster

build:
	Tools/install.sh run
	swift build

release:
	Tools/install.sh run
	swift build $(RELEASE_FLAGS)

## Speed and memory beside upstream's figures.
bench: release
	Tools/install.sh test
	Benchmarks/run.sh $(RELEASE)

golden: build
	Tools/golden.sh .build/debug/martlet

generate:
	Tools/generate.py

verify-generated:
	Tools/generate.py --check

clean:
	rm -rf .build
