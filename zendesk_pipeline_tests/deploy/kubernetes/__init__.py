"""What a cluster would be asked for, held against the schemas of Kubernetes; none is started."""
