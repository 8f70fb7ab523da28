//! The keeper: parent of every process, tiny, single-threaded, outliving the server.
