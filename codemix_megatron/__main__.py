"""`python -m codemix_megatron` is the `codemix` command."""

import sys

from codemix_megatron.cli.main import main

sys.exit(main())
