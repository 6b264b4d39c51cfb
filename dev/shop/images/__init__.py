"""The product images: a bucket that everybody may read what is tagged as public of, and browsers that do."""
