"""What a trained run is for: scores, decisions and files that go elsewhere, without the workflow."""
