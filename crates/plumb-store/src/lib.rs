//! The content-addressed repository of objects, images and releases.
