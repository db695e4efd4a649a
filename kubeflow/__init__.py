"""The same pipeline on Kubeflow Pipelines and Vertex AI: every component a container.

A pipeline is compiled without a look at data (`dag`, `resolution`, `compiler`). When it runs, its
first step looks at config and logs (`preparation`); every other one builds the graph from what that
found, picks its component, and runs it on the artifacts it is handed (`step`, `execution`). What a
step made is kept on the shared file system (`records`), from which later runs start.
"""
