//! The composition root: the only place that builds real things and joins them.
