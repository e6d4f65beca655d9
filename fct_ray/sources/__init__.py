"""Raw items: known data sets, image folders, Parquet of images or text, as columns of arrays with ids."""
