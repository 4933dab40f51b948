//! A cluster of EKS and its Kubernetes API: a compromised pod is cut off, and given back.
