# All of it is in Python: `python3 -m alpamayo_ros.bootstrap --help` and `.venv/bin/alpamayo --help`.

PYTHON ?= python3
SECONDS = 15
CASES = 100000
TICKS = 100000
BAG =
ARGS =

RUFF = .venv/bin/ruff
STYLE = --isolated --line-length 100 --target-version py310
RULES = --select E,F,W,I,B,UP --ignore B905
SOURCES = alpamayo_ros launch test rosbag_tests conftest.py setup.py

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test soak fuzz lint clean

help:
	@echo "make setup             make .venv: ROS 2 Jazzy from PyPI and this package (no root)"
	@echo "make demo              setup, then drive 15 s closed-loop: world, planner, controller"
	@echo "make demo BAG=drive    plan on a recording of yours instead (SECONDS=15)"
	@echo "make test              setup, then every test (ARGS='-k sampling' or '-n 0 --pdb')"
	@echo "make fuzz              CASES=100000 wild messages, settings, files: is each refused well?"
	@echo "make soak              TICKS=100000 of 0.1 s full of faults: does a bad plan get out?"
	@echo "make lint              ruff and mypy"
	@echo "make clean             remove .venv and what builds and tests leave"
	@echo "PYTHON=python3.12 chooses the Python that .venv is made of (3.10 to 3.13)"

setup:
	@$(PYTHON) -m alpamayo_ros.bootstrap setup

setup-dev:
	@$(PYTHON) -m alpamayo_ros.bootstrap setup --dev --quiet

demo:
	@$(PYTHON) -m alpamayo_ros.bootstrap setup --quiet
	@.venv/bin/alpamayo demo --seconds $(SECONDS) $(if $(BAG),--bag "$(BAG)")

# Two workers (conftest.py) with a thread each: more cost more than they bring on two cores.
test: setup-dev
	OMP_NUM_THREADS=1 .venv/bin/pytest -n 2 $(ARGS)

fuzz: setup-dev
	FUZZ_CASES=$(CASES) .venv/bin/pytest -q test/fuzz test/vla/test_fuzz_checkpoint.py $(ARGS)

soak: setup-dev
	.venv/bin/python -m alpamayo_ros.bench.soak --ticks $(TICKS)

lint: setup-dev
	$(RUFF) check $(STYLE) $(RULES) $(wildcard $(SOURCES))
	$(RUFF) format --check $(STYLE) $(wildcard $(SOURCES))
	.venv/bin/mypy

clean:
	rm -rf .venv build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
