"""What a deployment chooses, where its secrets are, and what AWS says of a wrong choice."""
