"""What a GAN is used for: each application is a module of its own."""

__all__: list[str] = []
