"""Images as a whole: looked at, seen through a view, packed from a folder, unpacked to one."""
