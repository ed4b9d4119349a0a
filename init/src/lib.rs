//! What the lifeboot host writes and the device reads.
