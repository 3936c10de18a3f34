//! SIP messages: bytes in, views and edits out.
