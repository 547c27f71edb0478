"""Commands about ordinary registries: access, images, logins."""
