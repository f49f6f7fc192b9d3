//! A store member: consensus, watch hub, gRPC services, HTTP endpoints.
