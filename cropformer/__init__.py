"""CropFormer: class-agnostic entities from the whole image and crops of it."""
