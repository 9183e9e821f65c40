"""The image, built and run: `make image`. Needs root, and of Debian buildah, podman, runc, debootstrap, PostgreSQL."""
