"""Views: a source that shows another one differently, such as one platform of it, or with other media types."""
