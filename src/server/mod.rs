//! The REST API in Kubernetes' shape, over TLS and the Unix socket.
