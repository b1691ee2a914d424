"""Code:text mixture studies on Megatron-Core: from corpora to a scored Hugging Face model."""

__version__ = "0.1.0"
