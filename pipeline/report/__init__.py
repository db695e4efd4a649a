"""The site of a run: static pages that say what was trained, how good it is and where it came from.

`gather_*` read what runs left behind into frozen data; `page_*` turn that into pages; `site` writes
them. Nothing here runs a model, and nothing but TFMA's and TFDV's own views needs TensorFlow.
"""
