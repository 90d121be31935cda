"""alpamayo_ros: a reasoning driving model as a ROS 2 planner. Import the module you need."""
