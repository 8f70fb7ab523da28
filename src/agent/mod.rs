//! Makes the Instances bound to this node real.
