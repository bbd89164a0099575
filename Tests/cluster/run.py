#!/usr/bin/env python3
"""The cluster ring: the real binary over TLS with the real kubectl.

  Tests/cluster/run.py --martlet .build/debug/martlet [--ring simulated|real] [--filter WORDS]
"""
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
import test_commands, test_kubectl, test_bad_input, test_survival  # noqa: F401  (each registers its tests)
import test_real, test_join  # noqa: F401

sys.exit(harness.main(sys.argv[1:]))
